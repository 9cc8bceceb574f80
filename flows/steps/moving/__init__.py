"""The steps that move, rename or remove files of photos: another project, a free name, the trash."""
