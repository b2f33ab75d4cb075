package project

import (
	"encoding/json"
	"reflect"
)

// SchemaURL is where editors find the schema of this file.
const SchemaURL = "https://raw.githubusercontent.com/lighter-oci/lighter/main/docs/lighter.schema.json"

// Schema is the JSON schema (draft 7, which editors of TOML read) of what Parse
// takes, made from the same tags. What only several keys together can have
// wrong it does not know.
func Schema() ([]byte, error) {
	top := object(reflect.TypeFor[Project]())
	top["$schema"] = "http://json-schema.org/draft-07/schema#"
	top["$id"] = SchemaURL
	top["title"] = Name
	raw, err := json.MarshalIndent(top, "", "  ")
	return append(raw, '\n'), err
}

type schema = map[string]any

// object is the schema of a struct.
func object(t reflect.Type) schema {
	properties, required := schema{}, []string{}
	for _, f := range fields(t) {
		of := schemaOf(t.Field(f.index).Type, f.is)
		of["description"] = f.help
		properties[f.name] = of
		if f.required {
			required = append(required, f.name)
		}
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// schemaOf is the schema of a field.
func schemaOf(t reflect.Type, is string) schema {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[short]()) {
		long := schema{"type": "array", "items": schema{"type": "string"}, "minItems": 1}
		if t.Kind() == reflect.Struct {
			long = object(t)
		}
		return schema{"anyOf": []schema{text(is), long}}
	}
	switch t.Kind() {
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Slice:
		s := schema{"type": "array", "items": schemaOf(t.Elem(), is)}
		if shapes[is].once {
			s["uniqueItems"] = true
		}
		return s
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": schemaOf(t.Elem(), is)}
	case reflect.Struct:
		return object(t)
	}
	return text(is)
}

// text is the schema of a string.
func text(is string) schema {
	shape := shapes[is]
	s := schema{"type": "string"}
	if shape.number {
		s["type"] = []string{"string", "integer"}
	}
	if shape.oneOf != nil {
		s["enum"] = shape.oneOf
	}
	if shape.pattern != "" {
		s["pattern"] = "^(?:" + shape.pattern + ")$"
	}
	return s
}
