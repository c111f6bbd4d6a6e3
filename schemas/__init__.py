"""The contracts between services: vocabulary, topic names, Arrow schemas, record headers. Imports none of the rest."""
