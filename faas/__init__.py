"""Functions: the Lambda API, the Runtime API and the microVMs behind them."""
