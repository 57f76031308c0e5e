"""The base of every section of the configuration: strict types. Pure."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One `[section]` of the configuration, frozen.

    The module of a source or destination defines its own section.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    def flaws(self) -> list[str]:
        """Return warnings about settings that are allowed but dangerous, for each start."""
        return []


def secret_names(section: type[BaseModel]) -> list[str]:
    """Return the keys of a section that hold secrets; each also has KEY_file and KEY_env."""
    return [
        name for name, field in section.model_fields.items() if "SecretStr" in str(field.annotation)
    ]
