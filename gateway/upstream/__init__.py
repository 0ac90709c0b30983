"""A lean HTTP/1.1 client towards services and outside servers, with bytes streamed both ways."""
