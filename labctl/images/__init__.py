"""What labctl does for images: it begins a build, follows it, and provisions the builder by SSH."""
