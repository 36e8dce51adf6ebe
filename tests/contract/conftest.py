import pytest

pytest.register_assert_rewrite(
    "tests.contract.driver_contract",
    "tests.contract.image_contract",
    "tests.contract.rigs",
    "tests.contract.incus_rigs",
)
