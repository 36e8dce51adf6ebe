import pytest

pytest.register_assert_rewrite(
    "tests.contract.driver_contract", "tests.contract.rigs", "tests.contract.virtualbox_rigs"
)
