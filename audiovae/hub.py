"""`save_pretrained`, `push_to_hub` and `from_pretrained`, as in other libraries of the Hugging Face Hub.

The folders are those of `audiovae.save`: JSON and safetensors, which cannot run code.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from audiovae.errors import ModelError

# The files of a repository that loading needs.
WANTED = ["config.json", "model.safetensors", "facts.json"]


class Shareable(ModelHubMixin, library_name="audiovae"):
    """Adds `save_pretrained(folder)`, `push_to_hub(name)` and `from_pretrained(folder or name)` to the families.

    Attributes:
        folder_writer: Saves a model to a folder, with a model card.
        folder_reader: Loads a model of any family from a folder to a device. Both are set in `audiovae/__init__.py`,
            because they depend on the families, which derive from this class.
    """

    folder_writer: ClassVar[Callable[[Any, Path], None]]
    folder_reader: ClassVar[Callable[[Path, str], Any]]

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **upload: Any,
    ) -> str | None:
        """Saves the model as `audiovae.save` does, with a model card. Unlike the base class, it writes atomically.

        Args:
            save_directory: The folder; it is created if it does not exist.
            config, model_card_kwargs: Ignored; accepted because the base class has them.
            repo_id: Name on the Hub for the upload; the folder's name by default.
            push_to_hub: Whether to upload the model as well.
            **upload: Further arguments of `push_to_hub`.

        Returns:
            The URL on the Hub after an upload, else None.

        Raises:
            ModelError: if the folder cannot be written or holds a model of another family.
        """
        type(self).folder_writer(self, Path(save_directory))
        return self.push_to_hub(repo_id or Path(save_directory).name, **upload) if push_to_hub else None

    def _save_pretrained(self, save_directory: Path) -> None:
        type(self).folder_writer(self, save_directory)

    @classmethod
    def from_pretrained(cls, place: str | Path, device: str = "cpu", **download: Any) -> Self:  # type: ignore[override]
        """Loads a model for use (evaluation mode).

        Args:
            place: A local folder, or the name of a repository on the Hub, such as "owner/piano-vae".
            device: Device for the weights.
            **download: Arguments of `huggingface_hub.snapshot_download`: `revision`, `token`, `cache_dir`, ...

        Raises:
            ModelError: if there is no such model, if it is damaged, or if it is not an instance of this class.
        """
        folder = Path(place)
        try:
            here = folder.exists()
        except OSError as error:
            raise ModelError(f"{place}: cannot be read ({error.strerror})") from None
        if not here and _is_path(str(place)):
            raise ModelError(f"{place}: no such folder; a model on the Hub has a name of the form owner/name")
        if not here:
            try:
                folder = Path(snapshot_download(str(place), allow_patterns=WANTED, **download))
            except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
                reason = str(error).splitlines()[0]
                if isinstance(error, LocalEntryNotFoundError):
                    reason = "the Hub cannot be reached and the cache has no copy"
                raise ModelError(f"{place}: neither a folder nor an available model on the Hub ({reason})") from None
        model = cls.folder_reader(folder, device)
        if not isinstance(model, cls):
            raise ModelError(
                f"{place}: is a {type(model).__name__}, not a {cls.__name__}; use audiovae.from_pretrained"
            )
        return model


def _is_path(place: str) -> bool:
    """Whether a name is a local path and not the name of a repository, which has the form owner/name."""
    owner, slash, name = place.partition("/")
    return not slash or not name or "/" in name or owner in ("", ".", "..", "~") or Path(owner).is_dir()
