# SPDX-License-Identifier: Apache-2.0
# Tables, figures and the page of results. They never train: the commands read the records that are there.


rule build_tables:
    input:
        jobs.records,
    output:
        jobs.table_files,
        report(jobs.table_pages, caption="../report/tables.rst", category="Tables"),
    log:
        str(layout.file(jobs.benchmark.name, layout.STEP_LOG, name="tables")),
    retries: 0
    params:
        file=jobs.path,
        configuration=jobs.configuration(steps.TABLES, jobs.of_benchmark),
        version=steps.TABLES.version,
    message:
        "tables"
    shell:
        "dcae tables {params.file:q} 2>&1 | tee -i {log}"


rule draw_figures:
    input:
        jobs.records,
        jobs.sample_images,
    output:
        jobs.figure_files,
        report(jobs.figure_pictures, caption="../report/figures.rst", category="Figures"),
    log:
        str(layout.file(jobs.benchmark.name, layout.STEP_LOG, name="figures")),
    retries: 0
    params:
        file=jobs.path,
        configuration=jobs.configuration(steps.FIGURES, jobs.of_benchmark),
        version=steps.FIGURES.version,
    message:
        "figures"
    shell:
        "dcae figures {params.file:q} 2>&1 | tee -i {log}"


rule make_page:
    input:
        jobs.records,
        jobs.sample_images,
    output:
        jobs.page,
    log:
        str(layout.file(jobs.benchmark.name, layout.STEP_LOG, name="page")),
    retries: 0
    params:
        file=jobs.path,
        configuration=jobs.configuration(steps.PAGE, jobs.of_benchmark),
        version=steps.PAGE.version,
    message:
        "page of the results"
    shell:
        "dcae page {params.file:q} 2>&1 | tee -i {log}"


# The same tables from whatever records there are; schedules nothing else.
rule tables:
    log:
        str(layout.file(jobs.benchmark.name, layout.STEP_LOG, name="tables-only")),
    retries: 0
    params:
        file=jobs.path,
    message:
        "tables from the records that are there"
    shell:
        "dcae tables {params.file:q} 2>&1 | tee -i {log}"


# One table or figure, from its own cells alone: `snakemake table2`. Others show what records there are.
for part, files in jobs.parts.items():

    rule:
        name:
            part
        input:
            files,
        log:
            str(layout.file(jobs.benchmark.name, layout.STEP_LOG, name=f"{part}-only")),
        retries: 0
        localrule: True
        params:
            file=jobs.path,
            command=jobs.command_of(part),
        shell:
            "dcae {params.command} {params.file:q} 2>&1 | tee -i {log}"
