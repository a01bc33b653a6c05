"""How good a result is: PSNR, denoisers to compare with, figures."""
