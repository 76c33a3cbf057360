"""The commands of `rakuten`, one module per group of commands. A command imports the heavy libraries only when it runs."""
