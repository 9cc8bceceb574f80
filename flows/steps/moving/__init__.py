"""Steps that move, rename or remove files of photos: to another project, to a free name, or to the trash."""
