"""`save_pretrained`, `push_to_hub` and `from_pretrained`, as users of the Hugging Face Hub know them.

Folders are those of `audiovae.save`: JSON and safetensors, nothing that could run code.
"""

from pathlib import Path
from typing import Any, ClassVar, Self

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from audiovae.errors import ModelError

# What loading needs, of a repository that may hold more.
WANTED = ["config.json", "model.safetensors", "facts.json"]


class Shareable(ModelHubMixin, library_name="audiovae"):
    """Adds `save_pretrained(folder)`, `push_to_hub(name)` and `from_pretrained(folder or name)` to the families.

    The functions that write and read a folder are set by `audiovae.weights`: it knows all families, and this base
    of theirs cannot import it.
    """

    folder_writer: ClassVar[Any]
    folder_reader: ClassVar[Any]

    def _save_pretrained(self, save_directory: Path) -> None:
        type(self).folder_writer(self, save_directory)

    @classmethod
    def from_pretrained(cls, place: str | Path, device: str = "cpu", **download: Any) -> Self:  # type: ignore[override]
        """Loads a model for use (evaluation mode).

        Args:
            place: A folder on this machine, or the name of a repository on the Hub, such as "somebody/piano-vae".
            device: Where the weights go.
            **download: `revision`, `token`, `cache_dir`, `local_files_only`: see `snapshot_download` there.

        Raises:
            ModelError: when there is none, when it is damaged, or of another family than the class.
        """
        folder = Path(place)
        try:
            here = folder.exists()
        except OSError as error:
            raise ModelError(f"{place}: cannot be read ({error.strerror})") from None
        if not here:
            try:
                folder = Path(snapshot_download(str(place), allow_patterns=WANTED, **download))
            except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
                reason = str(error).splitlines()[0]
                raise ModelError(f"{place}: neither a folder nor a model to be had from the Hub ({reason})") from None
        model = cls.folder_reader(folder, device)
        if not isinstance(model, cls):
            raise ModelError(f"{place}: a {type(model).__name__}, not a {cls.__name__}; use audiovae.from_pretrained")
        return model
