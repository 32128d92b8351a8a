//! What is seen from inside a running pod: a container with busybox is put beside the pod's own, for theirs have no
//! shell.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::{LogParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::common::{World, from_env, until};

/// Where a connection may lead: what it is called, the host, the port.
pub type Target<'a> = (&'a str, String, u16);

fn tools() -> String {
    from_env("FOCUS_TEST_TOOLS_IMAGE")
}

/// What the Pod Security level `restricted` asks of a container.
fn restricted() -> Value {
    json!({
        "runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"}
    })
}

/// Runs a shell script in the network of `pod`, among the processes of its container `beside`; gives what it printed.
pub async fn look(world: &World, pod: &str, beside: &str, script: &str) -> String {
    let name = format!("look-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let patch = json!({"spec": {"ephemeralContainers": [{
        "name": name, "image": tools(), "imagePullPolicy": "IfNotPresent", "targetContainerName": beside,
        "command": ["/bin/busybox", "sh", "-c", script], "securityContext": restricted()
    }]}});
    let params = PatchParams::default();
    let patch = Patch::Strategic(&patch);
    world.pods().patch_ephemeral_containers(pod, &params, &patch).await.unwrap();
    until(&format!("{name} in {pod} has ended"), || async {
        let statuses = world.pods().get(pod).await.unwrap().status?.ephemeral_container_statuses?;
        statuses.into_iter().find(|status| status.name == name)?.state?.terminated
    })
    .await;
    let of_it = LogParams { container: Some(name), ..LogParams::default() };
    world.pods().logs(pod, &of_it).await.unwrap()
}

/// Which of `targets` a TCP connection from `pod` reaches, and whether it can look up names (`names`). What should be
/// `open` and is not, or is and should not, is looked at again for a minute: a listener may not listen yet, a policy may
/// not be in force yet, and the machine may be busy. What stays wrong is told as it is.
pub async fn reaches(
    world: &World,
    pod: &str,
    beside: &str,
    targets: &[Target<'_>],
    open: &[&str],
) -> BTreeMap<String, bool> {
    let mut script = String::from(
        "b=/bin/busybox\n\
         end=$(($($b date +%s) + 60))\n\
         is() {\n\
           name=$1; wanted=$2; shift 2\n\
           while :; do\n\
             if \"$@\" >/dev/null 2>&1; then state=open; else state=shut; fi\n\
             if [ $state = $wanted ] || [ $($b date +%s) -ge $end ]; then break; fi\n\
             $b sleep 1\n\
           done\n\
           echo $name $state\n\
         }\n\
         is names open $b nslookup kubernetes.default.svc.cluster.local &\n",
    );
    for (name, host, port) in targets {
        let wanted = if open.contains(name) { "open" } else { "shut" };
        script += &format!("is {name} {wanted} $b nc -w 5 {host} {port} -e $b true &\n");
    }
    let printed = look(world, pod, beside, &(script + "wait\n")).await;
    let found: BTreeMap<String, bool> = printed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, state)| (name.to_owned(), state == "open"))
        .collect();
    assert_eq!(found.len(), targets.len() + 1, "{pod} printed {printed}");
    found
}

/// A pod `name` with `labels` that takes every connection on [`PORT`]; gives its address once it runs.
pub async fn listener(world: &World, name: &str, labels: Value) -> String {
    let pod = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "listener", "image": tools(), "imagePullPolicy": "IfNotPresent", "securityContext": restricted(),
                "command": ["/bin/busybox", "nc", "-ll", "-p", PORT.to_string(), "-e", "/bin/busybox", "true"]
            }]
        }
    });
    let pod = serde_json::from_value(pod).unwrap();
    world.pods().create(&PostParams::default(), &pod).await.unwrap();
    until(&format!("{name} runs"), || async {
        let status = world.pods().get(&pod.name_any()).await.unwrap().status?;
        let ready = status.conditions?.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        status.pod_ip.filter(|_| ready)
    })
    .await
}

/// The port of listeners.
pub const PORT: u16 = 8000;
