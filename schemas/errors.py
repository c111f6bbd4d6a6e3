"""What a reader raises when a record breaks the contract."""


class ContractError(ValueError):
    """A record or payload does not follow the contract. The message says what, where and what to do."""


class NewerSchemaError(ContractError):
    """The record was written by a newer Millrace than this one: upgrade the reader first."""
