"""The back ends: `base` says what each promises, `registry` lists them."""
