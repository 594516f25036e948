"""Knowledge distillation: losses, recipes, teachers and the one classifier trainer."""
