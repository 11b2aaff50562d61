"""What does a model attend to? Recording, replacing, Grad-CAM, rollout, drawing."""
