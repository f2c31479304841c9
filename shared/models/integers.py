"""Defines how the integers in a request are read."""

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class WholeNumber:
    """Annotates an integer that may be written with a decimal point, such as 100.0.

    For JSON Schema, 100.0 is an integer. R and pandas write integers in this form. Put the
    annotation last: `Annotated[int, Field(ge=1), WholeNumber]`. pydantic calls a Python function
    only for a number with a decimal point, so that other numbers are read as fast as without the
    annotation.
    """

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[int], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        whole_float = core_schema.float_schema(strict=True, multiple_of=1, allow_inf_nan=False)
        number = core_schema.union_schema(
            [
                core_schema.int_schema(strict=True),
                core_schema.chain_schema(
                    [whole_float, core_schema.no_info_plain_validator_function(int)]
                ),
            ],
            mode="left_to_right",
            custom_error_type="int_type",
        )
        return core_schema.chain_schema([number, handler(source)])

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.ChainSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema["steps"][-1])
