"""The commands of `rakuten`, a module per group. Heavy libraries are imported inside the commands that need them."""
