"""Object detection: Faster R-CNN on residual networks and on VGG-16 (Appendices A and B)."""
