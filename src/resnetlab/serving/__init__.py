"""A small HTTP server of one model: a page to drop photographs on, and predictions as JSON."""
