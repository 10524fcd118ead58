//! Serves files over HTTP inside the cluster, for models that download their data. The pod runs a program of its node, so that no
//! other image is needed.

use anyhow::Result;
use canopy_tests::kubernetes::{apply, kubectl};
use serde_json::json;

/// Serves the files in `/files`; a file that begins with `redirect` is a redirect. Other paths are 404.
const SERVER: &str = r#"
my $door = IO::Socket::INET->new(LocalPort => 8080, Listen => 16, ReuseAddr => 1) or die $!;
while (my $client = $door->accept) {
    my $line = <$client>;
    while (my $header = <$client>) { last if $header =~ /^\r?\n$/ }
    my ($file) = $line =~ m{^GET /([\w.-]+) };
    my ($status, $body) = ("404 Not Found", "");
    if ($file && open(my $in, "<", "/files/$file")) { local $/; ($status, $body) = ("200 OK", <$in>) }
    if ($body =~ /^redirect (\S+)/) { ($status, $body) = ("302 Found\r\nLocation: $1", "") }
    print $client "HTTP/1.1 $status\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n", $body;
    close $client;
}
"#;

/// Serves `files` and no others, and returns the URL of their folder. The namespace is for this pod only, because a pod with
/// folders of its node is not of the restricted level.
pub(crate) fn serve(namespace: &str, files: &[(&str, &str)]) -> Result<String> {
    let data: serde_json::Map<_, _> =
        files.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let borrowed =
        [("programs", "/usr", "/usr"), ("libraries", "/usr/lib", "/lib"), ("loader", "/usr/lib64", "/lib64")];
    let mut volumes: Vec<_> =
        borrowed.map(|(name, from, _)| json!({"name": name, "hostPath": {"path": from}})).into();
    let mut mounts: Vec<_> =
        borrowed.map(|(name, _, to)| json!({"name": name, "mountPath": to, "readOnly": true})).into();
    volumes.push(json!({"name": "files", "configMap": {"name": "files"}}));
    mounts.push(json!({"name": "files", "mountPath": "/files", "readOnly": true}));
    let labels = json!({"app": "files"});
    let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": data},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "files"},
         "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files", "labels": labels}, "spec": {
            "automountServiceAccountToken": false, "volumes": volumes, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "serve", "image": concat!("canopy-predictor:", env!("CARGO_PKG_VERSION")),
                "command": ["/usr/bin/perl", "-MIO::Socket::INET", "-e", SERVER], "volumeMounts": mounts,
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
            }],
        }},
    ]});
    kubectl(&["delete", "namespace", namespace, "--ignore-not-found"])?;
    apply(namespace, &manifests.to_string())?;
    kubectl(&["wait", "--for=condition=Ready", "pod/files", "--namespace", namespace, "--timeout", "60s"])?;
    Ok(format!("http://files.{namespace}.svc"))
}

/// Ends the server.
pub(crate) fn stop(namespace: &str) -> Result<()> {
    kubectl(&["delete", "namespace", namespace, "--wait=false"]).map(drop)
}
