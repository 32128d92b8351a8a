{{/* Whether HTTPRoute and GRPCRoute of `server.route` would meet: a listener takes routes of one kind for a host. */}}
{{- define "focus.route.clash" -}}
{{- $listener := false -}}
{{- range $a := .http.parentRefs -}}
{{- range $b := $.grpc.parentRefs -}}
{{- $same := true -}}
{{- range $key := list "name" "namespace" "kind" -}}
{{- if ne (get $a $key | default "" | toString) (get $b $key | default "" | toString) -}}{{- $same = false -}}{{- end -}}
{{- end -}}
{{- range $key := list "sectionName" "port" -}}
{{- $one := get $a $key | default "" | toString -}}
{{- $other := get $b $key | default "" | toString -}}
{{- if and $one $other (ne $one $other) -}}{{- $same = false -}}{{- end -}}
{{- end -}}
{{- if $same -}}{{- $listener = true -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $host := or (empty .http.hostnames) (empty .grpc.hostnames) -}}
{{- range $a := .http.hostnames -}}
{{- range $b := $.grpc.hostnames -}}
{{- if or (eq $a $b) (and (hasPrefix "*." $a) (hasSuffix (trimPrefix "*" $a) $b)) (and (hasPrefix "*." $b) (hasSuffix (trimPrefix "*" $b) $a)) -}}
{{- $host = true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $listener $host -}}yes{{- end -}}
{{- end -}}
