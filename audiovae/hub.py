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

    The functions that write and read a folder are set by `audiovae.saved.model_folder`: it knows all families,
    and this base
    of theirs cannot import it.
    """

    folder_writer: ClassVar[Any]
    folder_reader: ClassVar[Any]

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
        """Writes a folder as `audiovae.save` does, with a model card; the base's own would leave half of one.

        Args:
            save_directory: The folder; it is made when missing.
            config, model_card_kwargs: For the base alone: the model knows its description, the card its facts.
            repo_id: Name on the Hub, with push_to_hub; the folder's name by default.
            push_to_hub: Upload as well.
            **upload: Of `push_to_hub`.

        Returns:
            The address on the Hub, of an upload.

        Raises:
            ModelError: when it cannot be written, or a model of another family is there.
        """
        type(self).folder_writer(self, Path(save_directory))
        return self.push_to_hub(repo_id or Path(save_directory).name, **upload) if push_to_hub else None

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
        if not here and _is_path(str(place)):
            raise ModelError(f"{place}: no such folder; a model on the Hub is called somebody/a-name")
        if not here:
            try:
                folder = Path(snapshot_download(str(place), allow_patterns=WANTED, **download))
            except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
                reason = str(error).splitlines()[0]
                if isinstance(error, LocalEntryNotFoundError):
                    reason = "it cannot be reached, and no copy is in the cache"
                raise ModelError(f"{place}: neither a folder nor a model to be had from the Hub ({reason})") from None
        model = cls.folder_reader(folder, device)
        if not isinstance(model, cls):
            raise ModelError(f"{place}: a {type(model).__name__}, not a {cls.__name__}; use audiovae.from_pretrained")
        return model


def _is_path(place: str) -> bool:
    """Whether this names a folder rather than a repository, which is two words with one slash between."""
    owner, slash, name = place.partition("/")
    return not slash or not name or "/" in name or owner in ("", ".", "..", "~") or Path(owner).is_dir()
