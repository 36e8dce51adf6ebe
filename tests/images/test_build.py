"""Builds over the fake driver: to the end, wrong in every step, cut off, removed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.errors import Conflict, DriverFailed, LabError, NotFound, UsageProblem
from labcore.wire.image import ImageState, ImageStep
from labcore.wire.lab import PowerState
from server_manager.drivers.fake import CAPABILITIES, Failure
from server_manager.images.records import ref_of
from tests.images.workshop import NAME, Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    made.end_all()


def test_a_build_goes_through_its_steps_and_leaves_an_image(shop: Workshop):
    run = shop.begin()
    shop.provision()
    image = shop.ended()
    assert image.state is ImageState.READY
    assert image.handle == f"fake-{image.id}"
    assert (image.arch, image.size_mib, image.step, image.problem) == ("amd64", 100, None, None)
    assert image.sha512 is not None
    assert image.boot_s is not None
    begun = [e.data["step"] for e in shop.events() if e.data.get("outcome") == "begun"]
    assert begun == [str(step) for step in ImageStep if step is not ImageStep.LIVE]
    assert shop.end().data == {"run": run, "state": "ready"}


def test_a_live_image_is_frozen_last(shop: Workshop):
    shop.begin(live=True)
    shop.provision()
    image = shop.ended()
    assert image.state is ImageState.READY
    begun = [e.data["step"] for e in shop.events() if e.data.get("outcome") == "begun"]
    assert begun == [str(step) for step in ImageStep]
    assert shop.driver.live(ref_of(image)).state is PowerState.STOPPED


def test_an_import_has_nothing_to_freeze(shop: Workshop):
    with pytest.raises(UsageProblem, match="live"):
        shop.begin(live=True, provision=False)


def test_an_import_is_never_booted(shop: Workshop):
    shop.begin(provision=False)
    assert shop.ended().state is ImageState.READY
    assert "boot_builder" not in {call.operation for call in shop.driver.calls}


def test_the_same_wish_joins_and_later_is_nothing(shop: Workshop):
    run = shop.begin()
    shop.at(ImageStep.PROVISION)
    assert shop.begin() == run
    shop.provision()
    shop.ended()
    assert shop.begin() == run
    assert shop.images.none_is_built()


def test_another_wish_for_the_same_name_is_a_conflict(shop: Workshop):
    shop.begin()
    with pytest.raises(Conflict, match="is being built"):
        shop.begin(memory_mib=2048)
    shop.provision()
    shop.ended()
    with pytest.raises(Conflict, match="was built"):
        shop.begin(memory_mib=2048)


@pytest.mark.parametrize(
    ("operation", "step"),
    [
        ("prepare_image", ImageStep.CONVERT),
        ("boot_builder", ImageStep.BOOT),
        ("finish_image", ImageStep.SNAPSHOT),
        ("boot_live", ImageStep.LIVE),
        ("freeze_live", ImageStep.LIVE),
    ],
)
@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.DONE])
def test_a_call_that_fails_breaks_the_build_and_the_next_one_begins_again(
    shop: Workshop, operation: str, step: ImageStep, failure: Failure
):
    shop.driver.fail(operation, failure)
    first = shop.begin(live=step is ImageStep.LIVE)
    if step in (ImageStep.SNAPSHOT, ImageStep.LIVE):
        shop.provision()
    image = shop.ended()
    assert (image.state, image.step) == (ImageState.BROKEN, step)
    assert image.problem == f"{operation} {NAME} failed"
    assert shop.end().data["state"] == "broken"
    assert shop.driver.images() == ()  # no builder is left
    again = shop.built()
    assert again.state is ImageState.READY
    assert again.run > first


def test_a_builder_that_dies_tells_what_it_printed(shop: Workshop):
    shop.begin()
    shop.at(ImageStep.PROVISION)
    shop.driver.builder_dies(NAME, "Kernel panic")
    assert shop.ended().state is ImageState.BROKEN
    assert "Kernel panic" in shop.end().message
    assert shop.end().data["details"] == ["booting", "Kernel panic"]


def test_labctl_may_fail_to_provision(shop: Workshop):
    shop.begin()
    shop.at(ImageStep.PROVISION)
    shop.images.provisioned("fake", NAME, DriverFailed("apt failed", "look", ("E: no network",)))
    assert shop.ended().problem == "apt failed"
    assert shop.end().data["details"] == ["E: no network"]


def test_cancel_stops_a_build_and_leaves_no_builder(shop: Workshop):
    shop.begin()
    shop.at(ImageStep.PROVISION)
    shop.images.cancel("fake", NAME)
    assert shop.ended().state is ImageState.BROKEN
    assert shop.end().data["state"] == "cancelled"
    assert shop.driver.images() == ()


@pytest.mark.parametrize("step", [ImageStep.FETCH, ImageStep.BOOT, ImageStep.PROVISION])
def test_after_a_crash_what_was_not_sealed_is_undone(shop: Workshop, step: ImageStep):
    shop.left_at(step)
    shop.parts.manager.recover()
    image = shop.ended()
    assert (image.state, image.step) == (ImageState.BROKEN, step)
    assert image.problem == "the server-manager ended while it was built"
    assert shop.driver.images() == ()
    assert shop.built().state is ImageState.READY


def test_who_wishes_for_it_while_it_is_undone_begins_it_again(shop: Workshop):
    shop.left_at(ImageStep.BOOT)
    shop.driver.fail("remove_image", Failure.DONE_LATE, limit_s=0.3)
    shop.parts.manager.recover()
    assert shop.built().state is ImageState.READY


@pytest.mark.parametrize("step", [ImageStep.SEAL, ImageStep.SNAPSHOT])
def test_after_a_crash_what_was_sealed_is_finished(shop: Workshop, step: ImageStep):
    shop.left_at(step)
    shop.parts.manager.recover()
    assert shop.ended().state is ImageState.READY


def test_remove_stops_a_build_and_forgets_all_of_it(shop: Workshop):
    shop.begin()
    shop.at(ImageStep.PROVISION)
    shop.images.remove("fake", NAME)
    assert shop.images.all() == ()
    assert shop.driver.images() == ()
    assert not shop.parts.core.paths.image("fake", NAME).exists()
    with pytest.raises(NotFound):
        shop.images.remove("fake", NAME)


def test_remove_refuses_while_labs_are_made_from_it(shop: Workshop):
    shop.built()
    shop.parts.up()
    with pytest.raises(Conflict, match="demo") as refusal:
        shop.images.remove("fake", NAME)
    assert refusal.value.hint == "labctl destroy --lab demo first"
    assert shop.images.one("fake", NAME).labs == ("demo",)


def test_remove_that_failed_may_be_called_again(shop: Workshop):
    shop.built()
    shop.driver.fail("remove_image", Failure.DONE)
    with pytest.raises(DriverFailed):
        shop.images.remove("fake", NAME)
    assert shop.images.one("fake", NAME).state is ImageState.BROKEN
    shop.images.remove("fake", NAME)
    assert shop.images.all() == ()


def test_an_image_that_its_driver_lost_is_broken_and_can_be_built_again(shop: Workshop):
    image = shop.built()
    shop.driver.lose_images()
    assert shop.images.one("fake", NAME).problem == "driver fake does not have it any more"
    assert shop.built().handle == image.handle


def test_where_the_driver_cannot_be_asked_what_was_written_counts(shop: Workshop):
    shop.built()
    shop.driver.fail("images")
    assert shop.images.one("fake", NAME).state is ImageState.READY


def test_a_lab_is_made_from_the_newest_image_and_keeps_it(shop: Workshop):
    first = shop.built()
    shop.parts.up()
    other = shop.images.put("fake", "newer", shop.wish(provision=False))
    shop.ended()
    assert other > first.run
    shop.parts.up()
    lab = shop.parts.core.labs.get("demo")
    assert lab.spec.image == NAME
    server = shop.parts.core.servers.of("demo")[0]
    assert shop.parts.core.server_spec(lab, server).image == first.handle
    assert shop.images.choose("fake", None) == "newer"


def test_a_lab_needs_an_image_that_is_ready(shop: Workshop):
    with pytest.raises(Conflict, match="has no image") as refusal:
        shop.parts.up()
    assert refusal.value.hint == "labctl image build --driver fake"
    shop.built()
    with pytest.raises(NotFound, match="'other'"):
        shop.parts.up(image="other")


def test_a_slow_image_is_given_more_time_to_boot(shop: Workshop):
    image = shop.built()
    shop.parts.up()
    lab = shop.parts.core.labs.get("demo")
    assert shop.parts.core.boot_limit_s(lab) == CAPABILITIES.boot_limit_s
    shop.parts.core.images.change(image, boot_s=100.0)
    assert shop.parts.core.boot_limit_s(lab) == 500.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "disk.raw"}, "no absolute path"),
        ({"source": "/no/such/disk.raw"}, "cannot read"),
        ({"source": "http://127.0.0.1/x"}, "SHA-512 is needed"),
        ({"source": "ftp://127.0.0.1/x", "sha512": "0" * 128}, "no http or https URL"),
        ({"sha512": "xyz"}, "128 hexadecimal digits"),
        ({"source": None, "sha512": "0" * 128}, "goes with a file or a URL"),
    ],
)
def test_a_wish_that_cannot_come_true_is_refused_at_once(
    shop: Workshop, changes: dict[str, object], message: str
):
    with pytest.raises(UsageProblem, match=message):
        shop.begin(**changes)
    assert shop.images.all() == ()


def test_a_file_with_another_checksum_breaks_the_build(shop: Workshop):
    shop.begin(sha512="0" * 128)
    image = shop.ended()
    assert image.step is ImageStep.FETCH
    assert "SHA-512" in (image.problem or "")


def test_only_what_is_being_built_can_be_provisioned(shop: Workshop):
    shop.built()
    with pytest.raises(LabError, match="is not being built"):
        shop.images.provisioned("fake", NAME, None)
