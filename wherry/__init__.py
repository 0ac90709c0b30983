"""The ground floor: model, configuration, store, clock, errors, serving and the command line."""
