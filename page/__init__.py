"""The live page: a photo explained, poked at and painted in the browser, by the same functions as the scripts."""
