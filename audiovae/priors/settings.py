"""The settings of a prior: the latents that it models, and its network."""

from dataclasses import dataclass, field

from audiovae.priors.latents import LatentsConfig

# A larger network only occurs in files that are damaged or meant to fill the memory.
WIDEST = 1 << 13
MOST_LAYERS = 1 << 8
LARGEST_FACTOR = 1 << 5


@dataclass
class TransformerConfig:
    """The network of a prior.

    Attributes:
        width: Features of a frame.
        layers: Blocks of attention and feed-forward layer.
        heads: Attention heads; each has an even number of features, width / heads.
        feed_forward: Hidden features of a feed-forward layer, as a multiple of the width.
        dropout: Probability with which a feature is left out of what a layer adds, in training. Small data sets need
            0.1 to 0.3.
    """

    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, most in (("width", WIDEST), ("layers", MOST_LAYERS), ("heads", WIDEST)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"transformer.{name} is {value}: choose 1 to {most}")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"transformer.width is {self.width}: choose a multiple of {2 * self.heads}, twice transformer.heads"
            )
        if not 1 <= self.feed_forward <= LARGEST_FACTOR:
            raise ValueError(f"transformer.feed_forward is {self.feed_forward}: choose 1 to {LARGEST_FACTOR}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"transformer.dropout is {self.dropout}: a probability, at least 0 and below 1")


@dataclass
class PriorSettings:
    """Architecture and training of a prior, apart from the latents.

    Attributes:
        transformer: The network.
        given: Share of training sequences of which a part is given, so that the prior learns to continue a sequence
            and to fill gaps. For real latents; a prior of codes continues any beginning.
        noise: Standard deviation of noise that training adds to normalised real latents, so that a prior of few
            recordings does not learn them by heart. It has no effect on codes.
        unlabelled: Share of training sequences whose label is left out, so that the prior also learns to draw without
            one, which `--guidance` needs. It has no effect on data without labels.
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    given: float = 0.5
    noise: float = 0.02
    unlabelled: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.given <= 1:
            raise ValueError(f"given is {self.given}: a share, 0 to 1")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise is {self.noise}: choose 0 to 1")
        if not 0 <= self.unlabelled <= 1:
            raise ValueError(f"unlabelled is {self.unlabelled}: a share, 0 to 1")


@dataclass
class PriorConfig:
    """What a prior is built from.

    Attributes:
        latents: What the prior models.
        settings: Architecture and training.
    """

    latents: LatentsConfig
    settings: PriorSettings = field(default_factory=PriorSettings)
