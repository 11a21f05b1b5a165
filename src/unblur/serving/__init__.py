"""A saved model behind HTTP, a page in front of it, the page as static files, and the model as tools for agents."""
