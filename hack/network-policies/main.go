// Command network-policies enforces the NetworkPolicies of the local cluster.
//
// kube-network-policies decides about the first packet of each connection; here
// is only what brings those packets to it. Its own rules look at forwarded
// packets alone and need a kernel with nftables' queue statement. In this
// cluster the API server, the broker and the name server are the node itself,
// so what pods send to the node is looked at too, and iptables' NFQUEUE, which
// every kernel with Kubernetes' other needs has, queues the packets.
//
// What the node sends to its pods is never looked at: a policy cannot keep the
// kubelet's probes away. While there is no policy nothing is queued and no pod
// is watched; should this program end, everything passes.
//
// A pod is known by its address from the moment the kubelet tells it, up to a
// second after its start: what it does before is allowed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

const (
	queue = 100
	// The prefix lets hack/cluster-down find it.
	chain = "KUBE-NETWORK-POLICY"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how the API server is reached")
	bridge := flag.String("bridge", "", "the pods' bridge")
	ready := flag.String("ready", "", "address that answers once policies are enforced")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *bridge, *ready); err != nil && !errors.Is(err, context.Canceled) {
		klog.Exit(err)
	}
}

func run(ctx context.Context, kubeconfig, bridge, ready string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if err := hook(bridge); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	policies := factory.Networking().V1().NetworkPolicies()
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if _, err := policies.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { tell() },
		DeleteFunc: func(any) { tell() },
	}); err != nil {
		return fmt.Errorf("watching policies: %w", err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), policies.Informer().HasSynced) {
		return ctx.Err()
	}
	enforcer := enforcer{client: client, factory: factory}
	if err := enforcer.look(ctx); err != nil {
		return err
	}
	go answer(ready)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			if err := enforcer.look(ctx); err != nil {
				return err
			}
		}
	}
}

// enforcer queues packets while there is a policy, and knows what it has done.
type enforcer struct {
	client            kubernetes.Interface
	factory           informers.SharedInformerFactory
	deciding, queuing bool
}

// look sees whether there is any policy, and acts by it.
func (e *enforcer) look(ctx context.Context) error {
	found, err := e.factory.Networking().V1().NetworkPolicies().Lister().List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing policies: %w", err)
	}
	wanted := len(found) > 0
	if wanted && !e.deciding {
		if err := decide(ctx, e.client, e.factory); err != nil {
			return err
		}
		e.deciding = true
	}
	if wanted != e.queuing {
		if err := queueNew(wanted); err != nil {
			return err
		}
		e.queuing = wanted
	}
	return nil
}

// decide starts what decides about packets, and returns when it can.
func decide(ctx context.Context, client kubernetes.Interface, factory informers.SharedInformerFactory) error {
	controller, err := networkpolicy.NewController(client, factory.Networking().V1().NetworkPolicies(),
		factory.Core().V1().Namespaces(), factory.Core().V1().Pods(), nil, nil, nil, nil, networkpolicy.Config{
			QueueID: queue,
			// Its own rules queue what belongs to the pods of its node: none, for ours do that.
			NodeName: "none",
		})
	if err != nil {
		return fmt.Errorf("starting kube-network-policies: %w", err)
	}
	factory.Start(ctx.Done())
	go func() {
		if err := controller.Run(ctx); err != nil && ctx.Err() == nil {
			klog.Exitf("kube-network-policies ended: %v", err)
		}
	}()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		bound, err := queueBound()
		if err != nil {
			return err
		}
		if bound {
			return nil
		}
	}
	return fmt.Errorf("nobody has taken up packet queue %d after 20 s", queue)
}

// queueBound tells whether a program listens to our queue.
func queueBound() (bool, error) {
	queues, err := os.ReadFile("/proc/net/netfilter/nfnetlink_queue")
	if err != nil {
		return false, fmt.Errorf("the kernel has no packet queues: %w", err)
	}
	for _, line := range strings.Split(string(queues), "\n") {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == strconv.Itoa(queue) {
			return true, nil
		}
	}
	return false, nil
}

// hook sends what pods send and receive through our chain, after services have
// been resolved to pods and before any other filter.
func hook(bridge string) error {
	rules := [][]string{{"INPUT", "-i", bridge}, {"FORWARD", "-i", bridge}, {"FORWARD", "-o", bridge}}
	if err := queueNew(false); err != nil {
		return err
	}
	for _, rule := range rules {
		rule = append(rule, "-j", chain)
		if iptables("-C", rule) == nil {
			continue
		}
		if err := iptables("-I", rule); err != nil {
			return err
		}
	}
	return nil
}

func iptables(verb string, rule []string) error {
	args := append([]string{"-w", "-t", "mangle", verb}, rule...)
	if out, err := exec.Command("iptables", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("iptables %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// queueNew makes our chain queue new connections, or nothing.
func queueNew(wanted bool) error {
	rule := ""
	if wanted {
		rule = fmt.Sprintf("-A %s -m conntrack --ctstate NEW -j NFQUEUE --queue-num %d --queue-bypass\n", chain, queue)
	}
	restore := exec.Command("iptables-restore", "-w", "--noflush")
	restore.Stdin = strings.NewReader(fmt.Sprintf("*mangle\n:%s - [0:0]\n%sCOMMIT\n", chain, rule))
	if out, err := restore.CombinedOutput(); err != nil {
		return fmt.Errorf("changing the chain %s: %w: %s", chain, err, out)
	}
	klog.InfoS("Changed the chain", "queuesNewConnections", wanted)
	return nil
}

func answer(address string) {
	server := &http.Server{Addr: address, ReadHeaderTimeout: time.Second}
	server.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	klog.Exit(server.ListenAndServe())
}
