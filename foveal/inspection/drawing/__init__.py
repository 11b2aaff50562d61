"""Drawing of Records. This folder depends on no model: only on Records, images and predictions."""
