"""What packets are, in words for people. Pure: it gets bytes, and never raises because of them."""
