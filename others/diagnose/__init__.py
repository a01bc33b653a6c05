"""What a picture shows before anything is learnt from it: its noise, and whether pictures belong together."""
