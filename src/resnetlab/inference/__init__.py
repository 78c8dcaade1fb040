"""Networks in use: fast engines (`engines`), and the classes of images (`predict`)."""
