"""Pictures made for a network: feature visualization of classes and channels, and fooling images."""
