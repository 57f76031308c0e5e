"""The base of every section of the configuration: strict types. Pure."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One `[section]` of the configuration, frozen.

    Each source and destination has its own section in its file.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    def flaws(self) -> list[str]:
        """Warnings about settings that are allowed and dangerous, logged at each start."""
        return []


def secret_names(section: type[BaseModel]) -> list[str]:
    """The keys of a section that hold secrets; each has the companions KEY_file and KEY_env."""
    return [
        name for name, field in section.model_fields.items() if "SecretStr" in str(field.annotation)
    ]
