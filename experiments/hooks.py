"""Each line of a log to TensorBoard or Weights & Biases as well, where one of them is installed."""

from importlib.util import find_spec

NUMBERS = ("loss", "psnr_a", "psnr_b", "seconds", "cpu_seconds")


def require(**options):
    """Raise ImportError that says what to install, before anything is run; an option has the name of its package."""
    for package, value in options.items():
        if value and find_spec(package) is None:
            raise ImportError(f"--{package} needs {package}: pip install {package}")


def watchers(run, tensorboard=None, wandb=None):
    """Functions of a line, for one run. tensorboard: a folder; wandb: the name of a project."""
    made = []
    if tensorboard:
        made.append(to_tensorboard(run, tensorboard))
    if wandb:
        made.append(to_wandb(run, wandb))
    return made


def numbers(line):
    return {name: line[name] for name in NUMBERS if line.get(name) is not None}


def to_tensorboard(run, folder):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(f"{folder}/{run['experiment']}/{run['run']}, {run['scale']}")

    def watch(line):
        for name, value in numbers(line).items():
            writer.add_scalar(name, value, line["epoch"])
        if line["done"]:
            writer.close()

    return watch


def to_wandb(run, project):
    import wandb

    session = wandb.init(project=project, group=run["experiment"], name=run["run"], config=run, reinit=True)

    def watch(line):
        session.log(numbers(line), step=line["epoch"])
        if line["done"]:
            session.finish()

    return watch
