/* One run of another queue: producers put jobs of 1 KiB and wait until each is durable, consumers
 * take them and acknowledge. Prints jobs per second from the first put to the last acknowledgement.
 * peers.sh builds it with the libraries that are there, starts the servers and runs it.
 *
 *   peer beanstalkd|nats|rabbitmq PORT JOBS PRODUCERS CONSUMERS DEPTH
 *
 * DEPTH puts are on their way at once, and a consumer holds as many. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_NATS
#include <nats/nats.h>
#endif
#ifdef WITH_RABBITMQ
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

#define PAYLOAD_BYTES 1024
#define DEPTH_MAX 128

static atomic_llong *done;
static int port, depth;
static char payload[PAYLOAD_BYTES];

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "peer: %s\n", what);
    exit(1);
}

/* --- beanstalkd: a line protocol --- */

static FILE *beanstalkd_open(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    FILE *f;

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    f = fdopen(fd, "r+");
    check(f != NULL, "fdopen");
    return f;
}

static void beanstalkd_expect(FILE *f, char *line, size_t room, const char *word)
{
    check(fgets(line, (int)room, f) && strncmp(line, word, strlen(word)) == 0, word);
}

static void beanstalkd_produce(long jobs)
{
    FILE *f = beanstalkd_open();
    char line[256];

    while (jobs > 0) {
        long n = jobs < depth ? jobs : depth;

        for (long i = 0; i < n; i++) {
            fprintf(f, "put 5 0 600 %d\r\n", PAYLOAD_BYTES);
            fwrite(payload, 1, PAYLOAD_BYTES, f);
            fputs("\r\n", f);
        }
        fflush(f);
        for (long i = 0; i < n; i++)
            beanstalkd_expect(f, line, sizeof(line), "INSERTED");
        jobs -= n;
    }
}

static void beanstalkd_consume(long jobs)
{
    FILE *f = beanstalkd_open();
    char line[256], body[PAYLOAD_BYTES + 2];
    unsigned long long ids[DEPTH_MAX];

    while (*done < jobs) {
        int got = 0;

        for (int i = 0; i < depth; i++)
            fprintf(f, "reserve-with-timeout %d\r\n", i == 0);
        fflush(f);
        for (int i = 0; i < depth; i++) {
            check(fgets(line, sizeof(line), f) != NULL, "reserve");
            if (sscanf(line, "RESERVED %llu", &ids[got]) == 1) {
                check(fread(body, 1, sizeof(body), f) == sizeof(body), "body");
                got++;
            }
        }
        fflush(f);
        for (int i = 0; i < got; i++)
            fprintf(f, "delete %llu\r\n", ids[i]);
        fflush(f);
        for (int i = 0; i < got; i++)
            beanstalkd_expect(f, line, sizeof(line), "DELETED");
        fflush(f);
        atomic_fetch_add(done, got);
    }
}

/* --- NATS JetStream --- */

#ifdef WITH_NATS
static jsCtx *nats_open(natsConnection **nc)
{
    char url[64];
    jsCtx *js;

    snprintf(url, sizeof(url), "nats://127.0.0.1:%d", port);
    check(natsConnection_ConnectTo(nc, url) == NATS_OK, "connect");
    check(natsConnection_JetStream(&js, *nc, NULL) == NATS_OK, "JetStream");
    return js;
}

static void nats_prepare(void)
{
    natsConnection *nc;
    jsCtx *js = nats_open(&nc);
    const char *subjects[] = { "q.jobs" };
    jsStreamConfig stream;
    jsConsumerConfig consumer;

    jsStreamConfig_Init(&stream);
    stream.Name = "Q";
    stream.Subjects = subjects;
    stream.SubjectsLen = 1;
    stream.Storage = js_FileStorage;
    stream.Retention = js_WorkQueuePolicy;
    check(js_AddStream(NULL, js, &stream, NULL, NULL) == NATS_OK, "stream");
    jsConsumerConfig_Init(&consumer);
    consumer.Durable = "w";
    consumer.AckPolicy = js_AckExplicit;
    consumer.MaxAckPending = 10000;
    check(js_AddConsumer(NULL, js, "Q", &consumer, NULL, NULL) == NATS_OK, "consumer");
}

static void nats_produce(long jobs)
{
    natsConnection *nc;
    jsCtx *js = nats_open(&nc);

    while (jobs > 0) {
        long n = jobs < depth ? jobs : depth;

        for (long i = 0; i < n; i++)
            check(js_PublishAsync(js, "q.jobs", payload, PAYLOAD_BYTES, NULL) == NATS_OK, "put");
        check(js_PublishAsyncComplete(js, NULL) == NATS_OK, "put");
        jobs -= n;
    }
}

static void nats_consume(long jobs)
{
    natsConnection *nc;
    natsSubscription *sub;
    jsCtx *js = nats_open(&nc);

    check(js_PullSubscribe(&sub, js, "q.jobs", "w", NULL, NULL, NULL) == NATS_OK, "subscribe");
    while (*done < jobs) {
        natsMsgList list;

        if (natsSubscription_Fetch(&list, sub, depth, 1000, NULL) != NATS_OK)
            continue;
        for (int i = 0; i < list.Count; i++)
            check(natsMsg_Ack(list.Msgs[i], NULL) == NATS_OK, "ack");
        natsConnection_Flush(nc);
        atomic_fetch_add(done, list.Count);
        natsMsgList_Destroy(&list);
    }
}
#endif

/* --- RabbitMQ, a quorum queue --- */

#ifdef WITH_RABBITMQ
static amqp_connection_state_t rabbitmq_open(void)
{
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *s = amqp_tcp_socket_new(c);
    amqp_table_entry_t kind = { .key = amqp_cstring_bytes("x-queue-type") };
    amqp_table_t table = { 1, &kind };

    kind.value.kind = AMQP_FIELD_KIND_UTF8;
    kind.value.value.bytes = amqp_cstring_bytes("quorum");
    check(amqp_socket_open(s, "127.0.0.1", port) == 0, "connect");
    check(amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type ==
              AMQP_RESPONSE_NORMAL,
          "login");
    amqp_channel_open(c, 1);
    amqp_queue_declare(c, 1, amqp_cstring_bytes("jobs"), 0, 1, 0, 0, table);
    check(amqp_get_rpc_reply(c).reply_type == AMQP_RESPONSE_NORMAL, "queue");
    return c;
}

/* Tags come in any order, alone or as "all up to this one". */
static void rabbitmq_wait_confirms(amqp_connection_state_t c, long count)
{
    static bool is_confirmed[1 << 16];
    static uint64_t all_below = 1;

    while (count > 0) {
        amqp_frame_t f;
        const amqp_basic_ack_t *a;

        check(amqp_simple_wait_frame(c, &f) == AMQP_STATUS_OK, "confirm");
        if (f.frame_type != AMQP_FRAME_METHOD || f.payload.method.id != AMQP_BASIC_ACK_METHOD)
            continue;
        a = f.payload.method.decoded;
        for (uint64_t t = a->multiple ? all_below : a->delivery_tag; t <= a->delivery_tag; t++) {
            count -= !is_confirmed[t & 0xffff];
            is_confirmed[t & 0xffff] = true;
        }
        for (; is_confirmed[all_below & 0xffff]; all_below++)
            is_confirmed[all_below & 0xffff] = false;
        amqp_maybe_release_buffers(c);
    }
}

static void rabbitmq_produce(long jobs)
{
    amqp_connection_state_t c = rabbitmq_open();
    amqp_basic_properties_t p = { ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2 };
    amqp_bytes_t body = { PAYLOAD_BYTES, payload };

    amqp_confirm_select(c, 1);
    while (jobs > 0) {
        long n = jobs < depth ? jobs : depth;

        for (long i = 0; i < n; i++)
            check(amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes("jobs"), 0, 0, &p,
                                     body) == AMQP_STATUS_OK,
                  "put");
        rabbitmq_wait_confirms(c, n);
        jobs -= n;
    }
}

static void rabbitmq_consume(long jobs)
{
    amqp_connection_state_t c = rabbitmq_open();
    struct timeval second = { 1, 0 };

    amqp_basic_qos(c, 1, 0, (uint16_t)depth, 0);
    amqp_basic_consume(c, 1, amqp_cstring_bytes("jobs"), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    while (*done < jobs) {
        amqp_envelope_t e;

        amqp_maybe_release_buffers(c);
        if (amqp_consume_message(c, &e, &second, 0).reply_type != AMQP_RESPONSE_NORMAL)
            continue;
        amqp_basic_ack(c, 1, e.delivery_tag, 0);
        amqp_destroy_envelope(&e);
        atomic_fetch_add(done, 1);
    }
}
#endif

/* --- all --- */

static const struct peer {
    const char *name;
    void (*prepare)(void); /* or NULL */
    void (*produce)(long jobs);
    void (*consume)(long jobs);
} kinds[] = {
    { "beanstalkd", NULL, beanstalkd_produce, beanstalkd_consume },
#ifdef WITH_NATS
    { "nats", nats_prepare, nats_produce, nats_consume },
#endif
#ifdef WITH_RABBITMQ
    { "rabbitmq", NULL, rabbitmq_produce, rabbitmq_consume },
#endif
};

static pid_t spawn(void (*f)(long), long jobs)
{
    pid_t pid = fork();

    check(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        f(jobs);
        _exit(0);
    }
    return pid;
}

static double play(const struct peer *p, long jobs, int producers, int consumers)
{
    pid_t pids[64];
    int count = 0;
    double begin_s;

    if (p->prepare)
        p->prepare();
    for (int i = 0; i < consumers; i++)
        pids[count++] = spawn(p->consume, jobs);
    begin_s = now_s();
    for (int i = 0; i < producers; i++)
        pids[count++] = spawn(p->produce, jobs / producers);
    while (*done < jobs) {
        poll(NULL, 0, 1);
        check(now_s() - begin_s < 45, "it takes too long");
    }
    begin_s = now_s() - begin_s;
    for (int i = 0; i < count; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    return (double)jobs / begin_s;
}

int main(int argc, char **argv)
{
    check(argc == 7, "usage: peer NAME PORT JOBS PRODUCERS CONSUMERS DEPTH");
    port = atoi(argv[2]);
    depth = atoi(argv[6]);
    check(depth > 0 && depth <= DEPTH_MAX && atoi(argv[4]) > 0 && atoi(argv[5]) <= 32, "numbers");
    done = mmap(NULL, sizeof(*done), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(done != MAP_FAILED, "memory");
    memset(payload, 'x', sizeof(payload));
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, argv[1]) == 0) {
            printf("%.0f\n", play(&kinds[i], atol(argv[3]), atoi(argv[4]), atoi(argv[5])));
            return 0;
        }
    }
    fprintf(stderr, "peer: built without %s\n", argv[1]);
    return 3;
}
