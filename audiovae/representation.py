"""What the trunk sees and returns: here the waveform itself."""

from torch import Tensor, nn

from audiovae.losses import squared_error, stft_distance


class Waveform(nn.Module):
    """Audio as it is: [B, 1, T] in [-1, 1] on both sides."""

    channels = 1

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.frames = samples

    def represent(self, audio: Tensor) -> Tensor:
        """[B, 1, T] audio -> [B, 1, T]."""
        return audio

    def render(self, representation: Tensor) -> Tensor:
        """[B, 1, T] -> [B, 1, T] audio."""
        return representation

    def distances(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The reconstruction terms of training, each [B]: `mse` and `stft`."""
        return {"mse": squared_error(output.float(), target), "stft": stft_distance(output, target)}
