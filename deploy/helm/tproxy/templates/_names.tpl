{{- define "tproxy.labels" -}}
app.kubernetes.io/name: tproxy-injector
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
{{- define "tproxy.selector" -}}
app.kubernetes.io/name: tproxy-injector
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "tproxy.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
