{{/* Name of the chart, in labels. */}}
{{- define "expert-router.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Name of the objects. At most 40 characters, so that what is added to it still fits. */}}
{{- define "expert-router.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "expert-router.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Name of objects that are not in a namespace: two releases of one name may be in two namespaces. */}}
{{- define "expert-router.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "expert-router.fullname" .) | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "expert-router.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "expert-router.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "expert-router.selectorLabels" -}}
app.kubernetes.io/name: {{ include "expert-router.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "expert-router.labels" -}}
{{ include "expert-router.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: expert-router
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image of ours: (dict "image" .Values.images.router "chart" .Chart) */}}
{{- define "expert-router.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end }}
