"""What prediction reads and writes: folders and lists of images, pages of a file, the parts of a job and who owns them."""
