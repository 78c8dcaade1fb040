"""The OpenAPI description of the server."""

from typing import TYPE_CHECKING, Any

from resnetlab.version import installed

if TYPE_CHECKING:
    from resnetlab.serving.app import Limits

STATUS = {
    "400": "No image can be read, or an option cannot be.",
    "408": "The request took too long to arrive.",
    "413": "The request is too large.",
    "503": "Too many requests at once.",
    "504": "The answer took too long.",
}


def description(limits: "Limits") -> dict[str, Any]:
    """The server's addresses, what they take and what they answer (OpenAPI 3.1)."""
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    failures = {
        status: {"description": text, "content": {"application/json": {"schema": error}}}
        for status, text in STATUS.items()
    }
    answer = {"description": "One prediction for each image, in order.", "content": _json("Answer")}
    form = {
        "type": "object",
        "properties": {"file": {"type": "array", "items": _binary(), "maxItems": limits.images}},
    }
    predict = {
        "summary": f"Classify images: at most {limits.images}, and {limits.bytes:,} bytes together.",
        "parameters": [
            _option("top", {"type": "integer", "minimum": 1, "maximum": 1000}, "Classes per image."),
            _option("explain", {"type": "string", "enum": ["yes", "no"]}, "Add maps of where the classes are seen."),
        ],
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": form}, "image/*": {"schema": _binary()}},
        },
        "responses": {"200": answer, **failures},
    }
    health = {
        "summary": "Whether the server is up, and what it runs.",
        "responses": {"200": {"description": "It is.", "content": {"application/json": {"schema": {}}}}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "resnetlab", "version": installed() or "0"},
        "paths": {"/predict": {"post": predict}, "/health": {"get": health}},
        "components": {"schemas": {"Answer": ANSWER}},
    }


RANKED = {
    "type": "object",
    "properties": {
        "class": {"type": "string"},
        "name": {"type": "string", "description": "In English, for ImageNet's classes."},
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["class", "probability"],
}
PREDICTION = {
    "type": "object",
    "properties": {
        "image": {"type": "string"},
        "classes": {"type": "array", "items": RANKED, "description": "The likeliest first."},
        "unsure": {"type": "boolean", "description": "Whether the likeliest class is below the server's limit."},
        "unfamiliar": {"type": "boolean", "description": "Whether the image is unlike the training images."},
        "maps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"class": {"type": "string"}, "image": {"type": "string", "format": "uri"}},
            },
        },
        "error": {"type": "string", "description": "Why the image cannot be read."},
    },
    "required": ["image"],
}
ANSWER = {
    "type": "object",
    "properties": {"model": {"type": "string"}, "predictions": {"type": "array", "items": PREDICTION}},
    "required": ["model", "predictions"],
}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _option(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _binary() -> dict[str, str]:
    return {"type": "string", "format": "binary"}
