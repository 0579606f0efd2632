/* What the Node object says is read from the machine at each heartbeat, every five minutes: often
 * enough for `kubectl get nodes`, seldom enough that an idle daemon does not write. */
#include "core/control/node.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/control/events.h"
#include "core/control/node_devices.h"
#include "core/node/device_reader.h"

enum { LINE_BYTES_MAX = 256 };

static const char NODE_LEASE_NAMESPACE[] = "kube-node-lease";

static const char RUNTIME[] = "inferd://" INFERD_VERSION;

char *node_find_ip(void) {
    struct ifaddrs *all = NULL;
    char text[INET_ADDRSTRLEN] = "127.0.0.1";
    if (getifaddrs(&all))
        return mem_strdup(text);
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET || (a->ifa_flags & IFF_LOOPBACK) ||
            !(a->ifa_flags & IFF_UP))
            continue;
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a->ifa_addr;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        break;
    }
    freeifaddrs(all);
    return mem_strdup(text);
}

/* First line of a file, "" when it cannot be read. */
static const char *read_line(const char *path, char out[LINE_BYTES_MAX]) {
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    if (!f)
        return out;
    if (fgets(out, LINE_BYTES_MAX, f))
        out[strcspn(out, "\n")] = '\0';
    fclose(f);
    return out;
}

/* PRETTY_NAME="Debian GNU/Linux 12 (bookworm)" */
static void os_image(char out[LINE_BYTES_MAX]) {
    FILE *f = fopen("/etc/os-release", "re");
    char line[LINE_BYTES_MAX];
    snprintf(out, LINE_BYTES_MAX, "Linux");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "PRETTY_NAME=\"%255[^\"]", out) == 1)
            break;
    }
    if (f)
        fclose(f);
}

static const char *architecture(const char *machine) {
    return !strcmp(machine, "x86_64") ? "amd64" : !strcmp(machine, "aarch64") ? "arm64" : machine;
}

static json_t *node_info(const struct utsname *u) {
    char machine_id[LINE_BYTES_MAX], boot_id[LINE_BYTES_MAX], system_uuid[LINE_BYTES_MAX];
    char image[LINE_BYTES_MAX];
    os_image(image);
    read_line("/etc/machine-id", machine_id);
    read_line("/proc/sys/kernel/random/boot_id", boot_id);
    if (!*read_line("/sys/class/dmi/id/product_uuid", system_uuid))
        snprintf(system_uuid, sizeof(system_uuid), "%s", machine_id);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "architecture",
                     architecture(u->machine), "bootID", boot_id, "containerRuntimeVersion",
                     RUNTIME, "kernelVersion", u->release, "kubeProxyVersion", KUBERNETES_VERSION,
                     "kubeletVersion", KUBERNETES_VERSION, "machineID", machine_id,
                     "operatingSystem", "linux", "osImage", image, "systemUUID", system_uuid);
}

/* Capacity and allocatable alike: nothing is set aside. A machine that is described by a file has
 * the cores and the memory that it says. */
static json_t *measure(const struct world *w, const struct devices *d) {
    struct sysinfo memory;
    struct statvfs disk;
    char cpu[24], bytes[32], storage[32] = "0", pods[16];
    snprintf(cpu, sizeof(cpu), "%ld",
             d && d->num_cores ? (long)d->num_cores : sysconf(_SC_NPROCESSORS_ONLN));
    sysinfo(&memory);
    snprintf(bytes, sizeof(bytes), "%lluKi",
             (d && d->memory_bytes ? (unsigned long long)d->memory_bytes
                                   : (unsigned long long)memory.totalram * memory.mem_unit) /
                 1024);
    if (w->config->data_dir && !statvfs(w->config->data_dir, &disk))
        snprintf(storage, sizeof(storage), "%lluKi",
                 (unsigned long long)disk.f_blocks * disk.f_frsize / 1024);
    snprintf(pods, sizeof(pods), "%d", NODE_PODS_MAX);
    return json_pack("{s:s, s:s, s:s, s:s}", "cpu", cpu, "memory", bytes, "pods", pods,
                     "ephemeral-storage", storage);
}

static void set_conditions(const struct world *w, json_t *node) {
    static const char *const rows[][4] = {
        {"MemoryPressure", "False", "KubeletHasSufficientMemory",
         "kubelet has sufficient memory available"},
        {"DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
        {"PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
        {"Ready", "True", "KubeletReady", "inferd is posting ready status"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        object_set_condition(node, rows[i][0], rows[i][1], rows[i][2], rows[i][3], w->wall_ms);
        json_object_set_new(object_find_condition(node, rows[i][0]), "lastHeartbeatTime",
                            world_timestamp(w));
    }
}

static void set_labels(const struct world *w, json_t *node, const struct utsname *u) {
    json_t *labels = object_at(node, "metadata.labels");
    if (!json_is_object(labels))
        object_set(node, "metadata.labels", labels = json_object());
    json_object_set_new(labels, "kubernetes.io/hostname", json_string(w->node_name));
    json_object_set_new(labels, "kubernetes.io/os", json_string("linux"));
    json_object_set_new(labels, "kubernetes.io/arch", json_string(architecture(u->machine)));
    json_object_set_new(labels, "beta.kubernetes.io/os", json_string("linux"));
    json_object_set_new(labels, "beta.kubernetes.io/arch", json_string(architecture(u->machine)));
}

/* Extended resources (their names have a domain) that somebody else advertised by a patch stay. */
static void set_resources(json_t *node, const char *path, const json_t *measured) {
    json_t *resources = json_copy((json_t *)measured), *amount;
    const char *name;
    json_object_foreach (object_at(node, path), name, amount) {
        if (strchr(name, '/') && !json_object_get(resources, name) &&
            !node_devices_wrote(node, name))
            json_object_set(resources, name, amount);
    }
    object_set(node, path, resources);
}

static void describe(struct world *w, json_t *node) {
    struct utsname u;
    uname(&u);
    set_labels(w, node, &u);
    const struct devices *devices = device_reader_current(w->device_reader);
    json_t *capacity = measure(w, devices), *allocatable = json_copy(capacity);
    node_devices_add_resources(devices, false, capacity);
    node_devices_add_resources(devices, true, allocatable);
    set_resources(node, "status.capacity", capacity);
    set_resources(node, "status.allocatable", allocatable);
    json_decref(capacity);
    json_decref(allocatable);
    node_devices_describe(w, node, devices);
    object_set(node, "status.nodeInfo", node_info(&u));
    object_set(node, "status.addresses",
               json_pack("[{s:s, s:s}, {s:s, s:s}]", "type", "InternalIP", "address", w->node_ip,
                         "type", "Hostname", "address", w->node_name));
    object_set(node, "status.daemonEndpoints.kubeletEndpoint.Port", json_integer(0));
    set_conditions(w, node);
}

/* The Lease by which clients see that a node is alive. It holds for two heartbeats. */
static enum errc renew_lease(struct world *w, struct error *err) {
    AUTO(store_object) was = world_get(w, KIND_LEASE, NODE_LEASE_NAMESPACE, w->node_name);
    AUTO(store_object) node = world_get(w, KIND_NODE, NULL, w->node_name);
    json_t *lease = was ? json_deep_copy(was->json)
                        : json_pack("{s:{s:s, s:s}}", "metadata", "name", w->node_name, "namespace",
                                    NODE_LEASE_NAMESPACE);
    char now[CLOCK_RFC3339_BYTES];
    clock_rfc3339(w->wall_ms, now);
    json_t *renewed = json_sprintf("%.19s.%03d000Z", now, (int)(w->wall_ms % 1000));
    object_set(lease, "spec",
               json_pack("{s:s, s:i, s:o}", "holderIdentity", w->node_name, "leaseDurationSeconds",
                         2 * NODE_HEARTBEAT_SECONDS, "renewTime", renewed));
    if (was)
        return world_update(w, was, lease, NULL, err);
    if (node) {
        json_t *ref = object_owner_ref(node->json);
        json_object_del(ref, "controller");
        json_object_del(ref, "blockOwnerDeletion");
        object_set(lease, "metadata.ownerReferences", json_pack("[o]", ref));
    }
    return world_create(w, KIND_LEASE, lease, NULL, err);
}

void node_tell_schedulable(struct world *w, const json_t *was, const json_t *now) {
    bool before = object_bool(was, "spec.unschedulable", false);
    bool after = object_bool(now, "spec.unschedulable", false);
    if (before != after)
        event_emit(w, now, EVENT_NORMAL, after ? "NodeNotSchedulable" : "NodeSchedulable",
                   "kubelet", "Node %s status is now: %s", object_name(now),
                   after ? "NodeNotSchedulable" : "NodeSchedulable");
}

enum errc node_ensure(struct world *w, struct error *err) {
    AUTO(store_object) was = world_get(w, KIND_NODE, NULL, w->node_name);
    if (!was) {
        json_t *node = json_pack("{s:{s:s}, s:{}}", "metadata", "name", w->node_name, "spec");
        describe(w, node);
        if (world_create(w, KIND_NODE, node, NULL, err))
            return err->code;
        return renew_lease(w, err);
    }
    json_t *node = json_deep_copy(was->json);
    describe(w, node);
    if (world_update(w, was, node, NULL, err))
        return err->code;
    return renew_lease(w, err);
}

enum errc node_remove_stale(struct world *w, struct error *err) {
    AUTO_STORE_LIST nodes = {0}, pods = {0};
    world_list(w, KIND_NODE, NULL, &nodes);
    for (size_t i = 0; i < nodes.num_items; i++) {
        const json_t *node = nodes.items[i]->json;
        const char *runtime = object_str(node, "status.nodeInfo.containerRuntimeVersion");
        if (runtime && !strncmp(runtime, "inferd://", 9) &&
            strcmp(object_name(node), w->node_name) != 0 && world_remove(w, nodes.items[i], err))
            return err->code;
    }
    world_list(w, KIND_POD, NULL, &pods);
    for (size_t i = 0; i < pods.num_items; i++) {
        const char *bound = object_str(pods.items[i]->json, "spec.nodeName");
        AUTO(store_object) node = bound ? world_get(w, KIND_NODE, NULL, bound) : NULL;
        if (bound && !node && world_remove(w, pods.items[i], err))
            return err->code;
    }
    return OK;
}
