"""What is true of any program: errors, files, interrupts, progress."""
