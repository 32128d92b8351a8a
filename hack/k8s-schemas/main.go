// Command k8s-schemas writes JSON schemas as kubeconform reads them, strict ones:
//
//	k8s-schemas OUT swagger FILE   from the OpenAPI 2 document of a Kubernetes release
//	k8s-schemas OUT crd FILE…      from CustomResourceDefinitions
//
// A schema's file is <kind>-<first part of the group>-<version>.json, all lower case.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

type object = map[string]any

func main() {
	if len(os.Args) < 4 {
		fatal(fmt.Errorf("usage: k8s-schemas OUT swagger|crd FILE…"))
	}
	out, what, files := os.Args[1], os.Args[2], os.Args[3:]
	if err := os.MkdirAll(out, 0o755); err != nil {
		fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			fatal(err)
		}
		if what == "swagger" {
			err = swagger(out, text)
		} else {
			err = definitions(out, text)
		}
		if err != nil {
			fatal(fmt.Errorf("%s: %w", file, err))
		}
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "k8s-schemas:", err)
	os.Exit(1)
}

// swagger writes all definitions into one file, and for each kind a file that points into it.
func swagger(out string, text []byte) error {
	var document struct {
		Definitions map[string]object `json:"definitions"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return err
	}
	for name, definition := range document.Definitions {
		if strings.HasSuffix(name, ".Quantity") {
			// The API takes numbers too.
			document.Definitions[name] = object{"type": []string{"string", "number"}}
			continue
		}
		strict(definition)
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		for _, entry := range kinds {
			kind := entry.(object)
			pointer := object{"$ref": "definitions.json#/definitions/" + name}
			if err := write(out, kind["kind"], kind["group"], kind["version"], pointer); err != nil {
				return err
			}
		}
	}
	return writeFile(filepath.Join(out, "definitions.json"), object{"definitions": document.Definitions})
}

// definitions writes a schema for each version of each CustomResourceDefinition in the text.
func definitions(out string, text []byte) error {
	for _, part := range bytes.Split(text, []byte("\n---\n")) {
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema object `json:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := yaml.Unmarshal(part, &crd); err != nil {
			return err
		}
		for _, version := range crd.Spec.Versions {
			schema := version.Schema.OpenAPIV3Schema
			strict(schema)
			properties := schema["properties"].(object)
			for _, field := range []string{"apiVersion", "kind", "metadata"} {
				if _, found := properties[field]; !found {
					properties[field] = object{}
				}
			}
			if err := write(out, crd.Spec.Names.Kind, crd.Spec.Group, version.Name, schema); err != nil {
				return err
			}
		}
	}
	return nil
}

// strict forbids fields that a schema does not name.
func strict(value any) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			strict(item)
		}
	case object:
		for _, item := range value {
			strict(item)
		}
		if value["format"] == "int-or-string" || value["x-kubernetes-int-or-string"] == true {
			delete(value, "format")
			delete(value, "anyOf")
			value["type"] = []string{"string", "integer"}
		}
		_, named := value["properties"].(object)
		_, further := value["additionalProperties"]
		if named && !further && value["type"] == "object" && value["x-kubernetes-preserve-unknown-fields"] != true {
			value["additionalProperties"] = false
		}
	}
}

func write(out string, kind, group, version any, schema object) error {
	name := fmt.Sprint(kind)
	if group := fmt.Sprint(group); group != "" {
		name += "-" + strings.SplitN(group, ".", 2)[0]
	}
	name += "-" + fmt.Sprint(version)
	return writeFile(filepath.Join(out, strings.ToLower(name)+".json"), schema)
}

func writeFile(path string, schema object) error {
	text, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
