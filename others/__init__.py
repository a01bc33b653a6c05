"""A Noise2Noise denoiser on a deep-learning framework written from scratch; `Miniproject_2.model.Model` wraps it."""
