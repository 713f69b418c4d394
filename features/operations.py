"""Migration operations of this app."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import CreateModel
from django.db.migrations.state import ProjectState


class CreatePartitionedModel(CreateModel):
    """Create a model's table partitioned by LIST of one column; features.partitions makes and swaps the partitions.

    The partition column must belong to the model's composite primary key, as Postgres demands.
    """

    def __init__(self, name: str, fields: list, *, partition_by: str, options: dict[str, Any] | None = None) -> None:
        super().__init__(name, fields, options)
        self.partition_by = partition_by

    def deconstruct(self) -> tuple[str, list, dict[str, Any]]:
        name, args, kwargs = super().deconstruct()
        return name, args, kwargs | {"partition_by": self.partition_by}

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        model = to_state.apps.get_model(app_label, self.name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        sql, params = schema_editor.table_sql(model)
        column = schema_editor.quote_name(self.partition_by)
        schema_editor.execute(f"{sql} PARTITION BY LIST ({column})", params or None)
