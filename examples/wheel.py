"""How pip builds the package (named in pyproject.toml): with the weights, which the course wants in Miniproject_2/."""

from pathlib import Path

from setuptools.command.build_py import build_py

WEIGHTS = Path("Miniproject_2", "bestmodel.pth")


class WithWeights(build_py):
    """Puts the weights into the package; one that is installed with -e finds them in the repository."""

    def run(self):
        super().run()
        for source, target in self.weights().items():
            self.copy_file(source, target)

    def weights(self):
        return {} if self.editable_mode else {str(WEIGHTS): str(Path(self.build_lib, "noise2noise", WEIGHTS.name))}

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *self.weights().values()]

    def get_source_files(self):
        """What the source archive holds, to be built from: with the weights, and with this file."""
        return [*super().get_source_files(), str(WEIGHTS), str(Path("examples", "wheel.py"))]
