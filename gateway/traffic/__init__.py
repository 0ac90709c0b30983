"""What happens to requests and answers on their way: decisions without a clock or a socket."""
