"""What every part agrees on: settings, events, names, logs, errors and the one hash."""
