/*
 * A generator: a coroutine that walks a tree recursively and yields each word as it comes to it,
 * so that the caller pulls them one by one with no stack, list or callback of its own. Prints the
 * words in order, each once, with how often it came.
 *
 *     cc generator.c $(pkg-config --cflags --libs weir-coro) && echo to be or not to be | ./a.out
 */
#include <weir/coro.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
    struct node *left, *right;
    unsigned count;
    char word[32];
};

static struct node *insert(struct node *node, const char *word)
{
    if (node == NULL) {
        node = calloc(1, sizeof *node);
        if (node == NULL)
            exit(EXIT_FAILURE);
        strcpy(node->word, word);
    }
    int order = strcmp(word, node->word);
    if (order < 0)
        node->left = insert(node->left, word);
    else if (order > 0)
        node->right = insert(node->right, word);
    else
        node->count++;
    return node;
}

static void walk(struct node *node)
{
    if (node == NULL)
        return;
    walk(node->left);
    struct node *right = node->right;
    weir_coro_yield(node); /* from any depth; the caller may free the node */
    walk(right);
}

static void words_in_order(void *tree)
{
    walk(tree);
}

int main(void)
{
    struct node *tree = NULL, *node;
    char word[32];
    while (scanf("%31s", word) == 1)
        tree = insert(tree, word);

    struct weir_coro_pool *pool;
    struct weir_coro *words;
    /* A tree of random words is shallow; a sorted one is a list, and recursion as deep as that. */
    struct weir_coro_options options = {.stack_bytes = 256 * 1024};
    int rc = weir_coro_pool_new(&pool, &options);
    if (rc == 0)
        rc = weir_coro_new(pool, &words, words_in_order, tree);
    if (rc < 0) {
        fprintf(stderr, "weir_coro_new: %s\n", strerror(-rc));
        return EXIT_FAILURE;
    }
    while ((node = weir_coro_resume(words, NULL)) != NULL) {
        printf("%u %s\n", node->count, node->word);
        free(node);
    }
    weir_coro_pool_free(pool);
    return EXIT_SUCCESS;
}
