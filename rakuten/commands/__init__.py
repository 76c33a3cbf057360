"""The commands of `rakuten`, one module per group. Heavy libraries are imported inside the commands that need them."""
